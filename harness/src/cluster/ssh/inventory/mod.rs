//! Lists of hosts in the formats that people have already. One parser a file, text in, hosts out: none of them connects to
//! anything or opens another file.

pub mod ssh_config;
