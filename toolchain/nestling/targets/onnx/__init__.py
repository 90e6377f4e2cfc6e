"""ONNX models: a file for each path, and one file of weights that all of them share."""
