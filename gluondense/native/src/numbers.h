// Numbers in text, read in the C locale. std::stof and std::strtod follow the locale that the
// process has set: in one with a decimal comma, they read "0.9" as 0.
#pragma once

#include <locale.h>
#include <stdlib.h>

namespace gluondense {

inline locale_t c_locale() {
  static const locale_t locale = newlocale(LC_ALL_MASK, "C", nullptr);
  return locale;
}

// As strtod and strtof: `end` is set behind the number.
inline double parse_double(const char* text, char** end) { return strtod_l(text, end, c_locale()); }
inline float parse_float(const char* text, char** end) { return strtof_l(text, end, c_locale()); }

}  // namespace gluondense
