// Backups of a disk in use, in a directory: `cairnctl backup`.
#pragma once

#include <string>

#include "base/result.h"
#include "tools/ctl/backup_chain.h"
#include "tools/ctl/backup_daemon.h"
#include "tools/ctl/ctl.h"

namespace cairn::ctl {

// "cairnctl: MESSAGE", with the exit code that fits.
[[nodiscard]] Exit complain_backup(const Error& error, bool lost);

// The chain in a directory that has one; ENOENT otherwise.
[[nodiscard]] Result<BackupChain> need_chain(const std::string& directory);

// The point's file is there and is what was written; the error says what is wrong.
[[nodiscard]] Result<void> verify_point(const std::string& directory, const BackupChain& chain,
                                        const BackupPoint& point);

// The options of a node on the files of a chain, read-only. Their backing files are what the chain
// says, whatever their headers name.
[[nodiscard]] schema::JsonObject chain_node(const std::string& directory,
                                            std::span<const BackupPoint> points);

// backup_create.cc
[[nodiscard]] Exit run_backup_create(const Options& options, const std::string& node,
                                     const std::string& directory);
// backup_prune.cc
[[nodiscard]] Exit run_backup_prune(const Options& options, const std::string& directory);
// backup_restore.cc
[[nodiscard]] Exit run_backup_restore(const Options& options, const std::string& directory,
                                      const std::string& file);

}  // namespace cairn::ctl
