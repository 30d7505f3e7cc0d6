"""A tensor that names a file outside the model."""

import numpy as np
from onnx import TensorProto, numpy_helper


def external(name="w"):
    tensor = numpy_helper.from_array(np.ones(1, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../secret")
    return tensor
