// Names of NBD exports.
#include <variant>

#include <gtest/gtest.h>

#include "block/nbd_filename.h"
#include "schema/types_block_options.h"

namespace cairn::block {
namespace {

// As the engine shows it, or the error.
std::string shown(std::string_view filename) {
  EXPECT_TRUE(is_nbd_filename(filename)) << filename;
  const auto options = parse_nbd_filename(filename);
  return options ? nbd_filename(*options) : options.error().message();
}

TEST(NbdFilenameTest, EveryFormIsShownAsAUri) {
  EXPECT_EQ(shown("nbd+unix:///disk?socket=/a/b"), "nbd+unix:///disk?socket=/a/b");
  EXPECT_EQ(shown("nbd+unix:///?socket=s"), "nbd+unix://?socket=s");
  EXPECT_EQ(shown("nbd+unix://?socket=s"), "nbd+unix://?socket=s");
  EXPECT_EQ(shown("nbd:unix:/a/b:exportname=disk"), "nbd+unix:///disk?socket=/a/b");
  EXPECT_EQ(shown("nbd:unix:/a/b"), "nbd+unix://?socket=/a/b");
  EXPECT_EQ(shown("nbd://host"), "nbd://host:10809");
  EXPECT_EQ(shown("nbd://host:7/a%20b"), "nbd://host:7/a b");
  EXPECT_EQ(shown("nbd+tcp://host/x"), "nbd://host:10809/x");
  EXPECT_EQ(shown("nbd://[::1]:7/x"), "nbd://[::1]:7/x");
  EXPECT_EQ(shown("nbd:host:7:exportname=x"), "nbd://host:7/x");
  EXPECT_EQ(shown("nbd:[::1]:7"), "nbd://[::1]:7");
}

TEST(NbdFilenameTest, RefusesWhatIsNotWellFormed) {
  for (const char* bad :
       {"nbd://", "nbd+unix:///x", "nbd+unix://h/x?socket=s", "nbd+unix:///?foo=s",
        "nbd+unix:///?socket=", "nbd://host/%zz", "nbd://host/%4", "nbd://host/%00",
        "nbd://host/x?socket=s", "nbd://[::1/x", "nbd://[::1]x"}) {
    EXPECT_EQ(shown(bad), "No valid URL specified") << bad;
  }
  EXPECT_EQ(shown("nbd:"), "NBD server address missing");
  EXPECT_EQ(shown("nbd:localhost"), "error parsing address 'localhost'");
}

// The credentials that a name stands for, and whom they are for, or the error.
std::string credentials(std::string_view filename) {
  EXPECT_TRUE(is_nbd_filename(filename)) << filename;
  const auto options = parse_nbd_filename(filename);
  return options ? options->tls_creds.value_or("none") + " " + options->tls_hostname.value_or("-")
                 : options.error().message();
}

TEST(NbdFilenameTest, NamesWithTlsBringTheirCredentials) {
  EXPECT_EQ(shown("nbds+unix://h/disk?socket=/a/b&tls-type=anon"), "nbd+unix:///disk?socket=/a/b");
  EXPECT_EQ(shown("nbds://host:7/x?tls-certificates=d"), "nbd://host:7/x");
  EXPECT_EQ(credentials("nbd://host/x"), "none -");
  EXPECT_EQ(credentials("nbds://host/x?tls-certificates=/a%20b"),
            R"(json:{"qom-type": "tls-creds-x509", "endpoint": "client", "dir": "/a b", )"
            R"("verify-peer": true} host)");
  EXPECT_EQ(credentials("nbds+tcp://[::1]/x?tls-certificates=d&tls-verify-peer=0&tls-hostname=n"),
            R"(json:{"qom-type": "tls-creds-x509", "endpoint": "client", "dir": "d", )"
            R"("verify-peer": false} n)");
  EXPECT_EQ(credentials("nbds+unix://alice@/x?socket=s&tls-psk-file=k/keys.psk"),
            R"(json:{"qom-type": "tls-creds-psk", "endpoint": "client", "dir": "k", )"
            R"("username": "alice"} -)");
  EXPECT_EQ(credentials("nbds://h/x?tls-type=psk&tls-psk-file=keys.psk"),
            R"(json:{"qom-type": "tls-creds-psk", "endpoint": "client", "dir": "."} h)");
  EXPECT_EQ(credentials("nbds://h/x?tls-type=anon"),
            R"(json:{"qom-type": "tls-creds-anon", "endpoint": "client"} h)");
}

TEST(NbdFilenameTest, NamesWithTlsThatTellTooLittleOrTooMuchAreRefused) {
  for (const char* bad : {"nbds://h/x", "nbds://h/x?tls-type=x509", "nbds://h/x?tls-type=psk",
                          "nbds://h/x?tls-type=ssl&tls-certificates=d"}) {
    EXPECT_EQ(credentials(bad),
              "A URL with TLS needs tls-certificates=DIR, tls-psk-file=FILE or tls-type=anon")
        << bad;
  }
  EXPECT_EQ(credentials("nbds://h/x?tls-psk-file=k/other"),
            "The file of tls-psk-file must be called keys.psk: 'k/other'");
  EXPECT_EQ(credentials("nbds://h/x?tls-certificates=d&tls-verify-peer=no"),
            "tls-verify-peer of a URL must be 0 or 1, not 'no'");
  for (const char* bad :
       {"nbd://h/x?tls-certificates=d", "nbd://u@h/x", "nbds://h/x?tls-type=anon&socket=s",
        "nbds+unix:///x?tls-type=anon", "nbds://h/x?tls-type=anon&tls-type=anon",
        "nbds://h/x?tls-type=", "nbds://?tls-type=anon", "nbds://h/x?what=1"}) {
    EXPECT_EQ(credentials(bad), "No valid URL specified") << bad;
  }
}

TEST(NbdFilenameTest, OtherNamesAreOthers) {
  EXPECT_FALSE(is_nbd_filename("nbdx://host"));
  EXPECT_FALSE(is_nbd_filename("nbd"));
  EXPECT_FALSE(is_nbd_filename("dir/nbd:x"));
}

}  // namespace
}  // namespace cairn::block
