// The part of libfmt that is not made of templates, compiled into our programs so that they do not
// need the shared library, which would bring the shared libstdc++ (`static_runtime` in
// meson.build).
#include <fmt/format-inl.h>

FMT_BEGIN_NAMESPACE
namespace detail {

// Those templates that the headers declare, and use, but do not define.
template FMT_API auto thousands_sep_impl<char>(locale_ref) -> thousands_sep_result<char>;
template FMT_API auto decimal_point_impl(locale_ref) -> char;
template FMT_API auto locale_ref::get<std::locale>() const -> std::locale;

}  // namespace detail
FMT_END_NAMESPACE
