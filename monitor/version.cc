// The version is set by the build, from meson.build.
#include "monitor/version.h"

namespace cairn::monitor {

schema::VersionInfo version_info() {
  schema::VersionInfo info;
  info.qemu.major = 10;
  info.qemu.minor = 2;
  info.qemu.micro = 0;
  info.package = "Cairn " CAIRN_VERSION;
  return info;
}

}  // namespace cairn::monitor
