"""KEDA's external scaler: tells a cluster how many replicas each pipeline needs."""
