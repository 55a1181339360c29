"""The door of balances, usage and receipts: a function URL's events, answered whole."""

from mangum import Mangum

from farebox.on_lambda import billing_app_from_environment

# lifespan off: Mangum would start and stop the application around every single event.
# The ignore: Mangum asks for a coroutine by type, and only awaits it.
handler = Mangum(billing_app_from_environment(), lifespan="off")  # type: ignore[arg-type]
