"""HAProxy at both ends: the server's gate with mutual TLS, and a site's connector to it."""
