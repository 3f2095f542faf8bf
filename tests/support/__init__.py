"""What the server and guarantee tests stand on: real servers, real projects, a proxy, and patience with a limit."""
