// SPDX-License-Identifier: Apache-2.0
#include "kernels/per_isa/amx.h"

#if defined(__AMX_TILE__)

namespace gluondense::GLUONDENSE_ISA_NAMESPACE {
namespace {

// The operand of ldtilecfg.
struct TileConfiguration {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
};

// Rows and bytes of a row.
thread_local int configured_rows = 0, configured_bytes = 0;

}  // namespace

void set_amx_tiles(int rows, int row_bytes) {
  if (rows == configured_rows && row_bytes == configured_bytes) return;
  // Rows of one tile are added to two tiles in turns: see multiply_chunk.
  const int upper = rows < kAmxRows ? rows : kAmxRows;
  const int lower = rows > kAmxRows ? rows - kAmxRows : upper;
  // A row of weights for each element of an input's row.
  const int depth = row_bytes / kAmxElementBytes;
  const int tile_rows[8] = {upper, upper, lower, lower, upper, lower, depth, depth};
  TileConfiguration configuration;
  for (int tile = 0; tile < 8; ++tile) {
    configuration.rows[tile] = static_cast<std::uint8_t>(tile_rows[tile]);
    configuration.row_bytes[tile] = kAmxRowBytes;
  }
  configuration.row_bytes[4] = configuration.row_bytes[5] = static_cast<std::uint16_t>(row_bytes);
  asm volatile("ldtilecfg %0" ::"m"(configuration));
  configured_rows = rows, configured_bytes = row_bytes;
}

void reset_amx_tiles() {
  if (configured_rows == 0) return;
  asm volatile("tilerelease");
  configured_rows = 0;
}

}  // namespace gluondense::GLUONDENSE_ISA_NAMESPACE

#endif
