"""The front door: the command line, and the composition of the services, in one process tree or in many."""
