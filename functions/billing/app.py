"""The door of balances, usage and receipts: a function URL's events, answered whole."""

from farebox.bootstrap import billing_app_from_environment
from mangum import Mangum

# lifespan off: Mangum would start and stop the application around every single event.
handler = Mangum(billing_app_from_environment(), lifespan="off")
