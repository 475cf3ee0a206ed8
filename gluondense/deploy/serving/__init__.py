# SPDX-License-Identifier: Apache-2.0
"""Archives of exports for model servers, and the service for multi-model-server."""
