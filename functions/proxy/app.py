"""The door of the relay: an ASGI application for the web server that run.sh starts."""

from farebox.on_lambda import relay_app_from_environment

app = relay_app_from_environment()
