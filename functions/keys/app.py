"""The door of keys, claims, top-ups and the admin API: a function URL's events, answered whole."""

from farebox.bootstrap import keys_app_from_environment
from mangum import Mangum

# lifespan off: Mangum would start and stop the application around every single event.
handler = Mangum(keys_app_from_environment(), lifespan="off")
