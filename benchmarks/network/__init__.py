"""Bad lines: proxies that cut, lose and hold up, and a host whose link goes down."""
