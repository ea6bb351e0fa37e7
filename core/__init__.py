"""What every room shares and nothing else: domain types, settings, errors, logging, metrics, the ops endpoints."""
