"""The BFF's endpoints, one file for each thing a client can ask about. Each is a function of what it needs."""
