"""Archives of exports for model servers, and the service for multi-model-server."""
