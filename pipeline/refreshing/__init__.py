"""The parts of a refresh: when one is due, who may run it, how far it is, what it labels anew."""
