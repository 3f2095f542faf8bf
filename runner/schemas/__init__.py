"""What a project's functions take and give, as documents that other programs read (OpenAPI, AsyncAPI), and a page to try the routes."""
