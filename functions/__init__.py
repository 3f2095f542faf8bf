"""The example project: late flights, found and told to whoever wants to know."""
