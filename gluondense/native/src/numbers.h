// SPDX-License-Identifier: Apache-2.0
// Numbers in text, read in the C locale. std::stof and std::strtod follow the locale that the
// process has set: in one with a decimal comma, they read "0.9" as 0.
#pragma once

#include <locale.h>
#include <stdlib.h>

#include <optional>
#include <string>

namespace gluondense {

// The number that the whole text is, or nothing.
inline std::optional<double> parse_number(const std::string& text) {
  static const locale_t c_locale = newlocale(LC_ALL_MASK, "C", nullptr);
  char* end = nullptr;
  const double value = strtod_l(text.c_str(), &end, c_locale);
  if (text.empty() || *end) return std::nullopt;
  return value;
}

}  // namespace gluondense
