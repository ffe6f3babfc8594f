//! Tries to reach config `port` (80) of the machine that it runs on, by TCP, by UDP
//! and by name. Its note is what became of each, as `tcp: …; udp: …; name: …`.

use sweepd_guests::said;
use sweepd_sdk::{Executor, Failure, Outcome, Task, run};

struct Guest;

impl Executor for Guest {
    fn execute(_: &Task) -> Result<Outcome, Failure> {
        let port = run::config_or("port", 80)?;
        let said = [said("tcp", sockets::tcp(port)), said("udp", sockets::udp(port)), said("name", sockets::name())];
        Ok(Outcome::done_with(said.join("; ")))
    }
}

sweepd_guests::runs_all!(Guest);

/// By the host's own functions: a C library may refuse before it asks the host.
#[cfg(target_arch = "wasm32")]
mod sockets {
    use wasip2::sockets::instance_network::instance_network;
    use wasip2::sockets::ip_name_lookup::resolve_addresses;
    use wasip2::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
    use wasip2::sockets::tcp_create_socket::create_tcp_socket;
    use wasip2::sockets::udp_create_socket::create_udp_socket;

    pub(crate) fn tcp(port: u16) -> Result<(), ErrorCode> {
        let socket = create_tcp_socket(IpAddressFamily::Ipv4)?;
        socket.start_connect(&instance_network(), here(port))?;
        socket.subscribe().block();
        socket.finish_connect().map(|_| ())
    }

    pub(crate) fn udp(port: u16) -> Result<(), ErrorCode> {
        let socket = create_udp_socket(IpAddressFamily::Ipv4)?;
        socket.start_bind(&instance_network(), here(0))?;
        socket.finish_bind()?;
        socket.stream(Some(here(port))).map(|_| ())
    }

    pub(crate) fn name() -> Result<(), ErrorCode> {
        resolve_addresses(&instance_network(), "localhost").map(|_| ())
    }

    fn here(port: u16) -> IpSocketAddress {
        IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (127, 0, 0, 1) })
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod sockets {
    use std::io;
    use std::net::{TcpStream, ToSocketAddrs as _, UdpSocket};

    pub(crate) fn tcp(port: u16) -> io::Result<()> {
        TcpStream::connect(("127.0.0.1", port)).map(|_| ())
    }

    pub(crate) fn udp(port: u16) -> io::Result<()> {
        UdpSocket::bind(("127.0.0.1", 0))?.connect(("127.0.0.1", port))
    }

    pub(crate) fn name() -> io::Result<()> {
        ("localhost", 80).to_socket_addrs().map(|_| ())
    }
}
