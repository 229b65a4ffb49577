"""The service and the page: one model behind HTTP, on this machine alone unless a token is asked for."""
