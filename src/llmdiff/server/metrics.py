"""What a server counts, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)


class Metrics:
    """Counters of one server, in a registry of its own.

    Example:
        >>> metrics = Metrics()
        >>> metrics.pictures.labels("drawn").inc()
        >>> b'llmdiff_pictures_total{outcome="drawn"} 1.0' in metrics.text()
        True
    """

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "llmdiff_requests", "Requests by the status of their answer.", ["status"], registry=registry
        )
        self.pictures = Counter("llmdiff_pictures", "Pictures by what became of them.", ["outcome"], registry=registry)
        self.waiting = Gauge("llmdiff_queue_pictures", "Pictures that wait.", registry=registry)
        self.wait_seconds = Histogram(
            "llmdiff_wait_seconds", "From order to call.", buckets=_SECONDS, registry=registry
        )
        self.call_seconds = Histogram(
            "llmdiff_call_seconds", "Of a call of the pipeline.", buckets=_SECONDS, registry=registry
        )
        self.call_pictures = Histogram(
            "llmdiff_call_pictures", "Pictures of a call.", buckets=(1, 2, 4, 8, 16, 32, 64), registry=registry
        )
        for outcome in ("drawn", "cancelled", "failed"):
            self.pictures.labels(outcome)  # so that they are there from the start, as 0

    def text(self) -> bytes:
        """In the form that Prometheus reads."""
        return generate_latest(self._registry)
