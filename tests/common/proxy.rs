//! A proxy between the log and an HTTP store that loses, delays, cuts, replaces and changes what goes through it.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The store takes it; the connection is closed without an answer.
    LoseAnswer,
    /// The store takes it; half of the answer comes back.
    CutAnswer,
    /// The store takes it; this status comes back.
    AnswerWith(u16),
    /// The store never sees it; this status comes back.
    RefuseWith(u16),
    /// The store never sees it; the connection is closed.
    Drop,
    /// Everything takes this much longer.
    Slow(Duration),
    /// The store gets it so much later, when whoever sent it has gone.
    Late(Duration),
    /// Everybody is told that the store took it, whether there was an object or not. (Stripping `If-None-Match` would not do:
    /// it is signed.)
    Unconditional,
}

/// A request, as far as rules look at it.
#[derive(Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// How many went through before it.
    pub number: usize,
}

impl Request {
    /// Whether it makes a segment.
    pub fn makes_segment(&self) -> bool {
        self.method == "PUT" && self.path.ends_with(".seg")
    }
}

type Rule = Box<dyn FnMut(&Request) -> Fault + Send>;

/// A running proxy.
pub struct Proxy {
    pub address: SocketAddr,
    rule: Arc<Mutex<Rule>>,
}

impl Proxy {
    /// One to the store at `target`, that changes nothing yet.
    pub fn start(target: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let rule: Arc<Mutex<Rule>> = Arc::new(Mutex::new(Box::new(|_| Fault::None)));
        let (rules, count) = (rule.clone(), Arc::new(AtomicUsize::new(0)));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (rules, count) = (rules.clone(), count.clone());
                thread::spawn(move || serve(client, target, &rules, &count));
            }
        });
        Proxy { address, rule }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From here on every request is looked at by this.
    pub fn rule(&self, rule: impl FnMut(&Request) -> Fault + Send + 'static) {
        *self.rule.lock().unwrap() = Box::new(rule);
    }
}

fn serve(mut client: TcpStream, target: SocketAddr, rule: &Mutex<Rule>, count: &AtomicUsize) {
    while let Some((head, body)) = message(&mut client) {
        let line = head.lines().next().unwrap_or_default().to_owned();
        let mut words = line.split(' ');
        let request = Request {
            method: words.next().unwrap_or_default().into(),
            path: words.next().unwrap_or_default().split('?').next().unwrap_or_default().into(),
            number: count.fetch_add(1, Ordering::Relaxed),
        };
        let fault = (rule.lock().unwrap())(&request);
        match fault {
            Fault::Drop => break,
            Fault::RefuseWith(status) => {
                if client.write_all(&refusal(status)).is_err() {
                    break;
                }
                continue;
            }
            Fault::Slow(time) | Fault::Late(time) => thread::sleep(time),
            _ => {}
        }
        let Some(answer) = forward(target, &head, &body, request.method == "HEAD") else { break };
        let sent = match fault {
            Fault::LoseAnswer | Fault::Late(_) => break,
            Fault::CutAnswer => {
                let _ = client.write_all(&answer[..answer.len() / 2]);
                break;
            }
            Fault::Unconditional
                if answer.starts_with(b"HTTP/1.1 412") || answer.starts_with(b"HTTP/1.1 409") =>
            {
                client.write_all(b"HTTP/1.1 200 OK\r\nETag: \"x\"\r\nContent-Length: 0\r\n\r\n")
            }
            Fault::AnswerWith(status) => client.write_all(&refusal(status)),
            _ => client.write_all(&answer),
        };
        if sent.is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
}

fn refusal(status: u16) -> Vec<u8> {
    let body = format!("<Error><Code>Planted{status}</Code></Error>");
    format!("HTTP/1.1 {status} Planted\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// Sends a request over a connection of its own, and gives the whole answer.
fn forward(target: SocketAddr, head: &str, body: &[u8], no_body: bool) -> Option<Vec<u8>> {
    let mut store = TcpStream::connect(target).ok()?;
    store.write_all(head.as_bytes()).ok()?;
    store.write_all(body).ok()?;
    let mut head = read_head(&mut store)?;
    while head.starts_with("HTTP/1.1 100") {
        head = read_head(&mut store)?;
    }
    let mut answer = head.clone().into_bytes();
    if no_body {
        return Some(answer);
    }
    answer.extend(rest(&mut store, &head)?);
    Some(answer)
}

fn message(from: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let head = read_head(from)?;
    let body = rest(from, &head)?;
    Some((head, body))
}

fn read_head(from: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if from.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|l| {
        let (key, value) = l.split_once(':')?;
        key.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// What follows the head, as it is on the wire.
fn rest(from: &mut TcpStream, head: &str) -> Option<Vec<u8>> {
    if header(head, "transfer-encoding").is_some_and(|e| e.eq_ignore_ascii_case("chunked")) {
        let mut body = Vec::new();
        let mut byte = [0];
        while !body.ends_with(b"\r\n0\r\n\r\n") && body != b"0\r\n\r\n" {
            if from.read(&mut byte).ok()? == 0 {
                return None;
            }
            body.push(byte[0]);
        }
        return Some(body);
    }
    let length = header(head, "content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    from.read_exact(&mut body).ok()?;
    Some(body)
}
