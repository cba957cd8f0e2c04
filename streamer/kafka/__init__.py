"""Kafka: the only package that talks to it. It alone builds clients and reads their errors."""
