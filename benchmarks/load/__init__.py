"""The load generator: thousands of clients of one server, as cheap as Python allows."""
