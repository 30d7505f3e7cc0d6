"""Put a policy in front of engines, clients and pipelines."""
