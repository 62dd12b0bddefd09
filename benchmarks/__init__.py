"""What otel_ir costs: CPU, memory and latency of the real server under a known load, stage by stage, beside forwarders of the same load."""
