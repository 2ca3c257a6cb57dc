"""The data edge: what applications reach over gRPC, and the queue in front of the NPU."""
