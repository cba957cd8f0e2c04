"""Model health beside Kafka: reads reports, and says how the models do. Nothing depends on it."""
