"""The shared cache, or none. `redis_cache` is imported only where a Redis is configured: its client takes longer to
import than all the rest of the driver, and a restart waits for that."""
