"""The store: DynamoDB spoken over aiohttp with our own signature. docs/decisions/0002 says why."""
