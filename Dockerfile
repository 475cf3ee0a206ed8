# gluondense with mxnet-cu112 on CUDA 11.2, cuDNN 8 and NCCL 2, see docs/gpu.md:
#
#   docker build -t gluondense:cu112 .
#   docker run --rm --gpus all gluondense:cu112 doctor
#
# The image contains all libraries that mxnet-cu112 needs but the driver, which --gpus all adds. NVIDIA
# removes images of ended CUDA versions from the registries: another base is
# BASE=nvidia/cuda:11.8.0-cudnn8-runtime-ubuntu22.04 with PYTHON=python3.10.
ARG BASE=nvidia/cuda:11.2.2-cudnn8-runtime-ubuntu20.04
FROM ${BASE}
ARG PYTHON=python3.9

# The keys of NVIDIA's package lists in old images have been replaced since; nothing comes from them.
RUN rm -f /etc/apt/sources.list.d/cuda*.list /etc/apt/sources.list.d/nvidia-ml*.list \
    && apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ${PYTHON} ${PYTHON}-venv ${PYTHON}-dev g++ libgl1 libglib2.0-0 libgomp1 libquadmath0 \
    && rm -rf /var/lib/apt/lists/*

COPY . /src
RUN ${PYTHON} -m venv /opt/gluondense \
    && /opt/gluondense/bin/pip install --no-cache-dir --upgrade pip setuptools \
    && /opt/gluondense/bin/pip install --no-cache-dir "/src[cu112]" \
    && /opt/gluondense/bin/python -m gluondense.native \
    && rm -rf /src

ENV PATH=/opt/gluondense/bin:${PATH}
WORKDIR /work
ENTRYPOINT ["gluondense"]
CMD ["--help"]
