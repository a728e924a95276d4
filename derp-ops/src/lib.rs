//! What the programs `derper` and `derpprobe` share, so that neither has a copy of it: how
//! operators give them flags ([`goflag`]) and secrets ([`keyfile`], [`meshkey`]), how they log
//! ([`logging`], [`panics`]), where they listen ([`listen_addr`]) and answer operators ([`operators`]), how
//! they show numbers ([`exposition`]) and to whom ([`debug_access`]), and how they look at servers
//! that nobody vouches for ([`any_certificate`]). And what each of them would have its own of: the
//! wall clock ([`clock`]), text on pages ([`html`]) and guesses at mistyped words ([`suggest`]).
//!
//! # What is not here
//!
//! No runtime. Which flags a program has, what its pages show and what its metrics
//! are called is the program's affair. Only [`keyfile`], [`meshkey`] and [`secret_file`] touch
//! files, and only [`logging::init`], [`panics::log`] and [`process`] change the process.

pub mod any_certificate;
pub mod clock;
pub mod debug_access;
pub mod exposition;
pub mod goflag;
pub mod html;
pub mod keyfile;
pub mod listen_addr;
pub mod logging;
pub mod meshkey;
pub mod operators;
pub mod panics;
pub mod process;
pub mod secret_file;
pub mod suggest;
pub mod version;
