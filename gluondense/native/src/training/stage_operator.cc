// MXNet's side of a dense stage.
#include <stdexcept>
#include <string>

#include "mxnet_operator.h"
#include "training/stage.h"

using namespace mxnet::ext;

namespace {

using gluondense::Attributes;
using gluondense::attribute;
using gluondense::count_attribute;
using gluondense::float_attribute;

template <class Function>
MXReturnValue guarded(Function function) {
  return gluondense::guarded("gluondense dense stage: ", function);
}

// All but the input's shape.
gluondense::StageShape shape_of(const Attributes& attributes) {
  gluondense::StageShape shape;
  shape.layers = count_attribute(attributes, "layers");
  shape.growth = count_attribute(attributes, "growth");
  shape.middle = count_attribute(attributes, "middle");
  shape.out_channels = count_attribute(attributes, "out_channels");
  shape.pool = count_attribute(attributes, "pool");
  shape.recompute = count_attribute(attributes, "recompute");
  shape.eps = float_attribute(attributes, "eps");
  shape.momentum = float_attribute(attributes, "momentum");
  const std::string& tail = attribute(attributes, "tail");
  if (tail == "maps") {
    shape.tail = gluondense::StageShape::kMaps;
  } else if (tail == "norm") {
    shape.tail = gluondense::StageShape::kNorm;
  } else if (tail == "conv") {
    shape.tail = gluondense::StageShape::kConv;
  } else {
    throw std::invalid_argument("tail is maps, norm or conv, not " + tail);
  }
  const bool conv = shape.tail == gluondense::StageShape::kConv;
  if (conv != (shape.out_channels > 0) || (shape.pool && !conv)) {
    throw std::invalid_argument("out_channels and pool are those of a conv tail");
  }
  return shape;
}

void set_input(gluondense::StageShape* shape, const std::vector<unsigned int>& images) {
  if (images.size() != 4) throw std::invalid_argument("its input must be (N, C, H, W)");
  shape->images = images[0], shape->channels = images[1];
  shape->height = images[2], shape->width = images[3];
}

// Calls `norm` and `weight` for each array, in the order of the operator's inputs.
template <typename EachNorm, typename EachWeight>
void each_array(const gluondense::StageShape& shape, gluondense::StageArrays* arrays,
                EachNorm norm, EachWeight weight) {
  arrays->layers.resize(shape.layers);
  for (int l = 0; l < shape.layers; ++l) {
    auto& layer = arrays->layers[l];
    const int before = shape.before(l);
    if (shape.middle) {
      norm(&layer.norm1, before);
      weight(&layer.weight1, shape.middle, before, 1);
    }
    norm(&layer.norm2, shape.middle ? shape.middle : before);
    weight(&layer.weight2, shape.growth, shape.middle ? shape.middle : before, 3);
  }
  if (shape.tail == gluondense::StageShape::kMaps) return;
  norm(&arrays->norm, shape.total());
  if (shape.tail == gluondense::StageShape::kConv) {
    weight(&arrays->weight, shape.out_channels, shape.total(), 1);
  }
}

gluondense::StageArrays take(const gluondense::StageShape& shape, std::vector<MXTensor>* tensors,
                             std::size_t next) {
  gluondense::StageArrays arrays;
  const auto data = [&] { return tensors->at(next++).data<float>(); };
  each_array(
      shape, &arrays,
      [&](gluondense::Norm* norm, int) {
        norm->gamma = data(), norm->beta = data(), norm->mean = data(), norm->var = data();
      },
      [&](float** weight, int, int, int) { *weight = data(); });
  return arrays;
}

MXReturnValue parse(const Attributes& attributes, int* inputs, int* outputs) {
  return guarded([&] {
    gluondense::StageArrays arrays;
    int count = 1;
    each_array(
        shape_of(attributes), &arrays, [&](gluondense::Norm*, int) { count += 4; },
        [&](float**, int, int, int) { ++count; });
    *inputs = count;
    *outputs = 1;
  });
}

MXReturnValue infer_type(const Attributes&, std::vector<int>* in, std::vector<int>* out) {
  for (int& type : *in) type = kFloat32;
  for (int& type : *out) type = kFloat32;
  return MX_SUCCESS;
}

MXReturnValue infer_shape(const Attributes& attributes,
                          std::vector<std::vector<unsigned int>>* in,
                          std::vector<std::vector<unsigned int>>* out) {
  return guarded([&] {
    auto shape = shape_of(attributes);
    set_input(&shape, in->at(0));
    gluondense::StageArrays arrays;
    std::size_t next = 1;
    const auto size = gluondense::checked_dim;
    each_array(
        shape, &arrays,
        [&](gluondense::Norm*, int channels) {
          for (int i = 0; i < 4; ++i) in->at(next++) = {size(channels)};
        },
        [&](float**, int channels, int depth, int kernel) {
          in->at(next++) = {size(channels), size(depth), size(kernel), size(kernel)};
        });
    const bool conv = shape.tail == gluondense::StageShape::kConv;
    out->at(0) = {size(shape.images), size(conv ? shape.out_channels : shape.total()),
                  size(shape.out_height()), size(shape.out_width())};
  });
}

// The moving averages.
MXReturnValue mutate(const Attributes& attributes, std::vector<int>* indices) {
  return guarded([&] {
    gluondense::StageArrays arrays;
    int next = 1;
    each_array(
        shape_of(attributes), &arrays,
        [&](gluondense::Norm*, int) {
          indices->push_back(next + 2);
          indices->push_back(next + 3);
          next += 4;
        },
        [&](float**, int, int, int) { ++next; });
  });
}

class Operator : public CustomStatefulOp {
 public:
  explicit Operator(const gluondense::StageShape& shape) : shape_(shape) {}

  MXReturnValue Forward(std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs,
                        const OpResource&) override {
    return guarded([&] {
      const auto& size = inputs->at(0).shape;
      set_input(&shape_, std::vector<unsigned int>(size.begin(), size.end()));
      stage_.forward(shape_, inputs->at(0).data<float>(), take(shape_, inputs, 1),
                     outputs->at(0).data<float>());
    });
  }

  // Inputs: gradient of the output, all inputs, the output.
  MXReturnValue Backward(std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs,
                         const OpResource&) override {
    return guarded([&] {
      stage_.backward(inputs->at(0).data<float>(), take(shape_, inputs, 2),
                      outputs->at(0).data<float>(), take(shape_, outputs, 1));
    });
  }

 private:
  gluondense::StageShape shape_;
  gluondense::Stage stage_;
};

MXReturnValue create(const Attributes& attributes, const MXContext&,
                     const std::vector<std::vector<unsigned int>>&, const std::vector<int>,
                     CustomStatefulOp** op) {
  return guarded([&] {
    *op = new Operator(shape_of(attributes));
    (*op)->ignore_warn = true;
  });
}

}  // namespace

REGISTER_OP(gluondense_dense_stage)
    .setParseAttrs(parse)
    .setInferType(infer_type)
    .setInferShape(infer_shape)
    .setMutateInputs(mutate)
    .setCreateOpState(create, "cpu");
