//! A real S3 server, started and stopped by the tests: versitygw, which FERROWAL_TEST_VERSITYGW names.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::common::Store;

pub const KEY: &str = "ferrowaltest";
/// Searched for in everything that the log shows.
pub const SECRET: &str = "planted/Secret+0f=the%store";

/// The server, its objects in a directory of its own.
pub struct Server {
    pub dir: tempfile::TempDir,
    pub address: SocketAddr,
    program: PathBuf,
    child: Option<Child>,
}

impl Server {
    /// Starts one; none where there is no program to start.
    pub fn start() -> Option<Server> {
        let Some(program) = std::env::var_os("FERROWAL_TEST_VERSITYGW") else {
            println!("not tested: FERROWAL_TEST_VERSITYGW names no server (make check-homes does)");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("data/bucket")).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut server = Server { dir, address, program: program.into(), child: None };
        server.restart();
        Some(server)
    }

    /// Starts it again, where it was.
    pub fn restart(&mut self) {
        let log = File::create(self.dir.path().join("server.log")).unwrap();
        let child = Command::new(&self.program)
            .args(["--port", &self.address.to_string(), "--quiet", "--keep-alive", "posix"])
            .arg(self.dir.path().join("data"))
            .env("ROOT_ACCESS_KEY", KEY)
            .env("ROOT_SECRET_KEY", SECRET)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let began = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            assert!(began.elapsed() < Duration::from_secs(20), "the server does not answer");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// The store as it is, or by another endpoint.
    pub fn store(&self, endpoint: Option<String>) -> Store {
        self.store_as("bucket", KEY, endpoint)
    }

    /// Another bucket, by another's key.
    pub fn store_as(&self, bucket: &str, key: &str, endpoint: Option<String>) -> Store {
        let endpoint = endpoint.unwrap_or_else(|| format!("http://{}", self.address));
        let properties = [
            ("fs.s3a.endpoint", endpoint.as_str()),
            ("fs.s3a.path.style.access", "true"),
            ("fs.s3a.access.key", key),
            ("fs.s3a.secret.key", SECRET),
        ];
        Store {
            uri: format!("s3a://{bucket}"),
            properties: properties.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            log: format!("/log-{}", self.address.port()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
