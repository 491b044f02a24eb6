// Tests of tools/nbd/options.h: what is understood, and the words for what is not.
#include "tools/nbd/options.h"

#include <cstdlib>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tools/common/report.h"

namespace cairn::tools {
namespace {

using Words = std::vector<std::string>;
using DetectZeroes = NbdOptions::DetectZeroes;

struct Outcome {
  std::optional<NbdOptions> options;
  int exit_code = 0;
  std::string out;
  std::string err;
};

Outcome parse_nbd(const Words& words) {
  set_program_name("nbd");
  Outcome outcome;
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  outcome.options = parse_nbd_command_line(words, outcome.exit_code);
  std::fflush(stdout);
  outcome.out = testing::internal::GetCapturedStdout();
  outcome.err = testing::internal::GetCapturedStderr();
  return outcome;
}

// The first line about a command line that is refused.
std::string refusal(const Words& words) {
  const Outcome outcome = parse_nbd(words);
  EXPECT_FALSE(outcome.options) << outcome.err;
  EXPECT_EQ(outcome.exit_code, EXIT_FAILURE);
  return outcome.err.substr(0, outcome.err.find('\n'));
}

TEST(NbdOptions, HaveTheFieldsDefaults) {
  const auto options = parse_nbd({"disk"}).options;
  ASSERT_TRUE(options);
  EXPECT_EQ(options->mode, NbdOptions::Mode::kServe);
  EXPECT_EQ(options->image.text, "disk");
  EXPECT_EQ(options->image.format, "");
  EXPECT_EQ(options->host(), "0.0.0.0");
  EXPECT_EQ(options->port_text(), "10809");
  EXPECT_EQ(options->shared, 1U);
  EXPECT_EQ(options->handshake_limit, 10U);
  EXPECT_FALSE(options->persistent);
  EXPECT_FALSE(options->read_only);
  EXPECT_FALSE(options->discard);
  EXPECT_EQ(options->detect_zeroes, DetectZeroes::kOff);
}

TEST(NbdOptions, TakeShortAndLongNamesAlike) {
  const Words brief = {"-p", "1",  "-b", "h",  "-k", "/s",  "-o",  "512", "-r",
                       "-s", "-n", "-e", "7",  "-f", "raw", "-t",  "-v",  "-x",
                       "n",  "-D", "d",  "-B", "b",  "-A",  "disk"};
  const Words full = {"--port=1",        "--bind=h",     "--socket=/s",        "--offset=0x200",
                      "--read-only",     "--snapshot",   "--cache=none",       "--shared=7",
                      "--format=raw",    "--persistent", "--verbose",          "--export-name=n",
                      "--description=d", "--bitmap=b",   "--allocation-depth", "disk"};
  for (const Words& words : {brief, full}) {
    const auto options = parse_nbd(words).options;
    ASSERT_TRUE(options);
    EXPECT_EQ(options->port_text(), "1");
    EXPECT_EQ(options->host(), "h");
    EXPECT_EQ(options->socket_path, "/s");
    EXPECT_EQ(options->offset, 512U);
    EXPECT_TRUE(options->read_only);
    EXPECT_TRUE(options->snapshot);
    EXPECT_TRUE(options->cache.direct);
    EXPECT_EQ(options->shared, 7U);
    EXPECT_EQ(options->image.format, "raw");
    EXPECT_TRUE(options->persistent);
    EXPECT_EQ(options->export_name, "n");
    EXPECT_EQ(options->description, "d");
    EXPECT_EQ(options->bitmaps, Words{"b"});
    EXPECT_TRUE(options->allocation_depth);
  }
}

TEST(NbdOptions, ChooseASnapshotToBeRead) {
  const auto by_name = parse_nbd({"-l", "one", "disk"}).options;
  ASSERT_TRUE(by_name);
  EXPECT_TRUE(by_name->read_only);
  EXPECT_EQ(by_name->load_snapshot->either, "one");
  const auto exact = parse_nbd({"-l", "snapshot.id=1,snapshot.name=a", "disk"}).options;
  ASSERT_TRUE(exact);
  EXPECT_EQ(exact->load_snapshot->id, "1");
  EXPECT_EQ(exact->load_snapshot->name, "a");
  EXPECT_EQ(parse_nbd({"-l", "snapshot.foo=1", "disk"}).err,
            "nbd: Invalid parameter 'snapshot.foo'\n"
            "nbd: Failed in parsing snapshot param `snapshot.foo=1'\n");
}

TEST(NbdOptions, RefuseValuesThatAreNone) {
  const std::pair<Words, std::string> cases[] = {
      {{"-e", "x"}, "Invalid shared device number 'x'"},
      {{"-e", "-1"}, "Invalid shared device number '-1'"},
      {{"-e", ""}, "Invalid shared device number ''"},
      {{"-e", "2147483648"}, "Invalid shared device number '2147483648'"},
      {{"-o", "32k"}, "Invalid offset '32k'"},
      {{"-o", ""}, "Invalid offset ''"},
      {{"-o", "99999999999999999999"}, "Invalid offset '99999999999999999999'"},
      {{"-k", "s"}, "socket path must be absolute"},
      {{"--cache=bogus"}, "Invalid cache mode `bogus'"},
      {{"--discard=bogus"}, "Invalid discard mode `bogus'"},
      {{"--aio=bogus"}, "Invalid aio mode 'bogus'"},
      {{"--handshake-limit=x"}, "Invalid handshake limit 'x'"},
      {{"--detect-zeroes=bogus"},
       "Failed to parse detect_zeroes mode: invalid parameter value: bogus"},
      {{"-x", std::string(4097, 'n')}, "export name '" + std::string(4097, 'n') + "' too long"},
      {{"-D", std::string(4097, 'd')},
       "export description '" + std::string(4097, 'd') + "' too long"},
  };
  for (auto [words, message] : cases) {
    words.emplace_back("disk");
    EXPECT_EQ(refusal(words), "nbd: " + message);
  }
}

TEST(NbdOptions, RefuseWhatIsSaidTwice) {
  EXPECT_EQ(refusal({"-n", "--cache=writeback", "disk"}),
            "nbd: -n and --cache can only be specified once");
  EXPECT_EQ(refusal({"--aio=native", "--aio=native", "disk"}),
            "nbd: --aio can only be specified once");
  EXPECT_EQ(refusal({"--discard=on", "--discard=off", "disk"}),
            "nbd: --discard can only be specified once");
}

TEST(NbdOptions, WantDiscardBeforeZeroesThatUnmap) {
  const std::string message =
      "nbd: setting detect-zeroes to unmap is not allowed without setting discard operation to "
      "unmap";
  EXPECT_EQ(refusal({"--detect-zeroes=unmap", "disk"}), message);
  EXPECT_EQ(refusal({"--detect-zeroes=unmap", "--discard=unmap", "disk"}), message);
  const auto options = parse_nbd({"--discard=unmap", "--detect-zeroes=unmap", "disk"}).options;
  ASSERT_TRUE(options);
  EXPECT_EQ(options->detect_zeroes, DetectZeroes::kUnmap);
}

TEST(NbdOptions, ListWithoutAnythingOfOneExport) {
  const auto options = parse_nbd({"-L", "-k", "/s"}).options;
  ASSERT_TRUE(options);
  EXPECT_EQ(options->mode, NbdOptions::Mode::kList);
  EXPECT_EQ(refusal({"-L", "disk"}), "nbd: List mode is incompatible with a file name");
  EXPECT_EQ(refusal({"-L", "--fork"}), "nbd: List mode is incompatible with forking");
  for (const Words& words :
       {Words{"-x", ""}, Words{"-D", ""}, Words{"-o", "1"}, Words{"-B", "b"}, Words{"-A"},
        Words{"-f", "raw"}, Words{"-n"}, Words{"--discard=on"}, Words{"--aio=native"},
        Words{"-l", "a"}, Words{"-c", "/dev/x"}, Words{"-d"}}) {
    Words all = {"-L"};
    all.insert(all.end(), words.begin(), words.end());
    EXPECT_EQ(refusal(all), "nbd: List mode is incompatible with per-device settings");
  }
}

TEST(NbdOptions, NeedCredentialsForWhatGoesWithThem) {
  EXPECT_EQ(refusal({"--tls-authz=a", "disk"}),
            "nbd: --tls-authz is not permitted without --tls-creds");
  EXPECT_EQ(refusal({"--tls-hostname=h", "disk"}),
            "nbd: --tls-hostname is not permitted without --tls-creds");
  EXPECT_EQ(refusal({"--tls-creds=t", "--tls-hostname=h", "disk"}),
            "nbd: TLS hostname is only supported with export list");
  EXPECT_EQ(refusal({"--tls-creds=t", "--tls-authz=a", "-L"}),
            "nbd: TLS authorization is incompatible with export list");
  EXPECT_EQ(refusal({"--tls-creds=t", "-c", "/dev/x", "disk"}),
            "nbd: TLS is not supported with a host device");
}

TEST(NbdOptions, WantOneFile) {
  const std::string message =
      "nbd: Invalid number of arguments\nTry `nbd --help' for more information.\n";
  EXPECT_EQ(parse_nbd({}).err, message);
  EXPECT_EQ(parse_nbd({"disk", "more"}).err, message);
  EXPECT_EQ(parse_nbd({"-d"}).err, message);
}

TEST(NbdOptions, PointToTheHelpAfterAnUnknownOption) {
  EXPECT_EQ(parse_nbd({"--nosuch", "disk"}).err,
            "nbd: unrecognized option '--nosuch'\n"
            "nbd: Try `nbd --help' for more information.\n");
}

TEST(NbdOptions, EndAfterHelpAndVersion) {
  for (const char* word : {"--help", "--version", "--object=help", "--trace=help"}) {
    const Outcome outcome = parse_nbd({word});
    EXPECT_FALSE(outcome.options);
    EXPECT_EQ(outcome.exit_code, EXIT_SUCCESS);
    EXPECT_EQ(outcome.err, "");
  }
  EXPECT_TRUE(parse_nbd({"-V"}).out.starts_with("nbd "));
}

TEST(NbdOptions, NameNoPlaceToListenBesideAPassedSocket) {
  const auto words_for = [](const Words& words) {
    const auto options = parse_nbd(words).options;
    EXPECT_TRUE(options);
    const Result<void> checked = check_activation(*options);
    return checked ? "" : checked.error().message();
  };
  EXPECT_EQ(words_for({"disk"}), "");
  EXPECT_EQ(words_for({"-k", "/s", "disk"}),
            "Unix socket can't be set when using socket activation");
  EXPECT_EQ(words_for({"-b", "h", "disk"}),
            "The interface can't be set when using socket activation");
  EXPECT_EQ(words_for({"-p", "1", "disk"}),
            "TCP port number can't be set when using socket activation");
  EXPECT_EQ(words_for({"-c", "/dev/x", "disk"}),
            "NBD device can't be set when using socket activation");
  EXPECT_EQ(words_for({"--selinux-label=l", "disk"}),
            "SELinux label can't be set when using socket activation");
  EXPECT_EQ(words_for({"-L"}), "List mode is incompatible with socket activation");
}

}  // namespace
}  // namespace cairn::tools
