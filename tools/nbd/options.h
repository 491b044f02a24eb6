// The command line of cairn-nbd.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "schema/types_block_options.h"
#include "tools/common/image.h"
#include "tools/common/session.h"
#include "tools/common/snapshots.h"

namespace cairn::tools {

struct NbdOptions {
  enum class Mode : uint8_t { kServe, kList, kDisconnect };
  using DetectZeroes = schema::BlockdevDetectZeroesOptions;

  Mode mode = Mode::kServe;
  ImageName image;  // kServe; the device for kDisconnect

  // The connection. An empty path means TCP.
  std::optional<std::string> port;
  std::optional<std::string> bind;
  std::optional<std::string> socket_path;
  uint32_t shared = 1;  // clients at a time; 0: any number
  bool persistent = false;
  uint32_t handshake_limit = 10;  // seconds; 0: none
  std::optional<std::string> export_name;
  std::optional<std::string> description;
  std::string device;  // of the kernel, to be connected

  [[nodiscard]] std::string host() const { return bind.value_or("0.0.0.0"); }
  [[nodiscard]] std::string port_text() const { return port.value_or("10809"); }

  // What is shown of the image.
  uint64_t offset = 0;  // bytes
  bool allocation_depth = false;
  std::vector<std::string> bitmaps;
  bool read_only = false;
  bool snapshot = false;
  std::optional<SnapshotChoice> load_snapshot;

  // How it is opened.
  CacheMode cache;
  std::string aio;
  std::optional<bool> discard;
  DetectZeroes detect_zeroes = DetectZeroes::kOff;

  // The program.
  std::vector<std::string> objects;
  std::optional<std::string> tls_creds;
  std::optional<std::string> tls_authz;
  std::optional<std::string> tls_hostname;
  bool fork = false;
  bool verbose = false;
  std::string pid_file;
  std::optional<std::string> selinux_label;
};

// Reads the command line behind the program's name. Nothing when there is nothing left to do: help
// or a version was printed, or an error; `exit_code` says which.
[[nodiscard]] std::optional<NbdOptions> parse_nbd_command_line(
    std::span<const std::string> arguments, int& exit_code);

// Where to listen, or whom to ask: the path of a Unix socket must be absolute.
[[nodiscard]] Result<void> check_socket_path(const NbdOptions& options);

// The socket that a service manager passes is the only place to listen: fails for options that name
// another one.
[[nodiscard]] Result<void> check_activation(const NbdOptions& options);

}  // namespace cairn::tools
