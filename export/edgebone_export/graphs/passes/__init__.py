"""Graph passes, each checked: what it requires, what it does, what it ensures.

The contract follows onnx-ir's passes. After every pass the graph's outputs are held against PyTorch's, so that
a pass that breaks the network is named.
"""
