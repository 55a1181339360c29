"""Wire formats, pure: bytes in, facts and bytes out."""
