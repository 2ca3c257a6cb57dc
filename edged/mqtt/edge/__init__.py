"""IoT Edge: a deployment manifest in, an agent's reported state out."""
