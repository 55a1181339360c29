"""ASGI: the relay as a plain application, keys and billing as FastAPI."""
