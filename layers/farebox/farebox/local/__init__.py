"""`farebox serve`: the whole service on one origin, with an embedded store and, if need be, a demo upstream."""
