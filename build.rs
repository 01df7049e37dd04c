//! Finds libdpdk, compiles the C shim for what is inline in its headers, and generates the raw
//! bindings. Used by `dataplane/dpdk-sys` (`build = "../../build.rs"`); paths are relative to it.

use std::env;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

/// The oldest release whose names and layouts the bindings were written against.
const DPDK_VERSION_MIN: &str = "22.11";

const WHAT_TO_INSTALL: &str = "install it with `apt-get install -y libdpdk-dev clang libclang-dev \
     pkg-config`, or build everything else with `cargo build --no-default-features`";

/// Only these are linked. Drivers are plugins which EAL loads by itself from the directory that
/// its packager compiled in, so that every driver the host has is found at run time; `net_ring`
/// is linked because joining two ports by a pair of rings is a function of that driver.
const LIBRARIES: &[&str] = &[
    "rte_eal",
    "rte_ethdev",
    "rte_mbuf",
    "rte_mempool",
    "rte_ring",
    "rte_net_ring",
];

/// Functions of the shim are called `shim_*`; everything else is exported by libdpdk.
const FUNCTIONS: &str = "shim_.*\
     |rte_eal_init|rte_eal_cleanup|rte_eal_get_runtime_dir|rte_strerror|rte_thread_(un)?register|rte_get_tsc_hz|rte_version\
     |rte_dev_(probe|remove)\
     |rte_pktmbuf_(pool_create|free_bulk)|rte_mempool_(free|avail_count|in_use_count)\
     |rte_mbuf_dyn_rx_timestamp_register\
     |rte_ring_(create|free|count)|rte_eth_from_rings\
     |rte_eth_dev_(get_port_by_name|info_get|configure|adjust_nb_rx_tx_desc|start|stop|close)\
     |rte_eth_dev_(socket_id|get_mtu)|rte_eth_(rx|tx)_queue_setup|rte_eth_promiscuous_enable\
     |rte_eth_(stats_get|link_get_nowait|macaddr_get)";
const TYPES: &str = "rte_mbuf|rte_mempool|rte_ring|rte_device|rte_eth_(conf|dev_info|stats|link|rxconf|txconf|rss_conf)|rte_ether_addr";
const CONSTANTS: &str = "SHIM_.*";
/// bindgen cannot lay out packed bit-fields over big-endian members; nothing here reads them.
const OPAQUE: &str = "rte_arp_ipv4|rte_arp_hdr|rte_l2tpv2_combined_msg_hdr|rte_gtp_psc_generic_hdr";

fn main() {
    tell_cargo(format_args!("rerun-if-changed=../../build.rs"));
    tell_cargo(format_args!("rerun-if-changed=src/shim.c"));
    tell_cargo(format_args!("rerun-if-changed=src/shim.h"));

    let library = pkg_config::Config::new()
        .atleast_version(DPDK_VERSION_MIN)
        .cargo_metadata(false)
        .probe("libdpdk")
        .unwrap_or_else(|error| {
            let reason = error.to_string();
            let first = reason
                .lines()
                .find(|line| !line.trim().is_empty())
                .unwrap_or("not found");
            fail(&format!(
                "libdpdk {DPDK_VERSION_MIN} or newer is needed ({first}): {WHAT_TO_INSTALL}"
            ))
        });
    let flags = compiler_flags();

    compile_shim(&library.include_paths, &flags);
    generate_bindings(&library.include_paths, &flags);

    for path in &library.link_paths {
        tell_cargo(format_args!("rustc-link-search=native={}", path.display()));
    }
    for name in LIBRARIES {
        tell_cargo(format_args!("rustc-link-lib=dylib={name}"));
    }
}

/// What `pkg-config --cflags` says besides include paths: `-include rte_config.h -march=...`.
/// The `pkg-config` crate drops both, and neither the shim nor bindgen is right without them.
fn compiler_flags() -> Vec<String> {
    let program = env::var_os("PKG_CONFIG").unwrap_or_else(|| "pkg-config".into());
    let output = Command::new(program)
        .args(["--cflags-only-other", "libdpdk"])
        .output();
    let printed = match output {
        Ok(output) if output.status.success() => output.stdout,
        _ => fail(&format!(
            "`pkg-config --cflags-only-other libdpdk` failed: {WHAT_TO_INSTALL}"
        )),
    };
    let printed = String::from_utf8_lossy(&printed);
    printed
        .split_whitespace()
        .map(String::from)
        .chain([String::from("-D_GNU_SOURCE")])
        .collect()
}

fn compile_shim(include_paths: &[PathBuf], flags: &[String]) {
    let mut build = cc::Build::new();
    build
        .file("src/shim.c")
        .opt_level(3)
        .warnings(true)
        .extra_warnings(true);
    // DPDK's own headers are not clean under -Wextra: name them as system headers.
    for path in include_paths {
        build.flag("-isystem").flag(path);
    }
    for flag in flags {
        build.flag(flag);
    }
    if let Err(error) = build.try_compile("ringfence_dpdk_shim") {
        fail(&format!(
            "the C shim of dpdk-sys does not compile ({error}): {WHAT_TO_INSTALL}"
        ));
    }
}

fn generate_bindings(include_paths: &[PathBuf], flags: &[String]) {
    let includes = include_paths
        .iter()
        .map(|path| format!("-I{}", path.display()));
    let builder = bindgen::Builder::default()
        .header("src/shim.h")
        .clang_args(includes)
        .clang_args(flags)
        .allowlist_function(FUNCTIONS)
        .allowlist_type(TYPES)
        .allowlist_var(CONSTANTS)
        .opaque_type(OPAQUE)
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .derive_default(true)
        .generate_comments(false)
        .layout_tests(true)
        .parse_callbacks(Box::new(
            bindgen::CargoCallbacks::new().rerun_on_header_files(true),
        ));
    // bindgen panics where libclang is missing: one sentence is worth more than its backtrace.
    panic::set_hook(Box::new(|_| {}));
    let generated = panic::catch_unwind(AssertUnwindSafe(|| builder.generate()));
    let _ = panic::take_hook();
    let bindings = match generated {
        Ok(Ok(bindings)) => bindings,
        Ok(Err(error)) => fail(&format!(
            "bindgen cannot read the headers of libdpdk ({error}): {WHAT_TO_INSTALL}"
        )),
        Err(_) => fail(&format!("bindgen finds no libclang: {WHAT_TO_INSTALL}")),
    };
    let Some(directory) = env::var_os("OUT_DIR") else {
        fail("cargo did not set OUT_DIR")
    };
    let path = Path::new(&directory).join("bindings.rs");
    if let Err(error) = bindings.write_to_file(&path) {
        fail(&format!("cannot write {}: {error}", path.display()));
    }
}

#[expect(
    clippy::disallowed_macros,
    reason = "cargo reads a build script's standard output"
)]
fn tell_cargo(instruction: std::fmt::Arguments<'_>) {
    println!("cargo::{instruction}");
}

/// Stops the build with one sentence instead of a backtrace.
fn fail(message: &str) -> ! {
    tell_cargo(format_args!("error={message}"));
    exit(1)
}
