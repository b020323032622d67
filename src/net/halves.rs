//! Stream sockets and their halves can do the same, of whatever kind they are. What a method does is
//! said once, at `TcpStream`.
#![forbid(unsafe_code)]

macro_rules! read_methods {
    ($Half:ty, $connected:ident, $split:literal) => {
        impl $Half {
            /// As [`TcpStream::read`](super::TcpStream::read).
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// Loses no byte.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $split]
            /// server.write_all(b"hi").await?;
            /// assert_eq!(reader.read(&mut [0; 8]).await?, 2);
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn read(&mut self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>> {
                transfer::run(&self.io, Reading(buffer))
            }

            /// As [`TcpStream::read_vectored`](super::TcpStream::read_vectored).
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// Loses no byte.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $split]
            /// server.write_all(b"hi").await?;
            /// let mut buffer = [0; 8];
            /// let mut buffers = [std::io::IoSliceMut::new(&mut buffer)];
            /// assert_eq!(reader.read_vectored(&mut buffers).await?, 2);
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn read_vectored(
                &mut self,
                buffers: &mut [IoSliceMut<'_>],
            ) -> impl Future<Output = io::Result<usize>> {
                transfer::run(&self.io, ReadingVectored::new(buffers))
            }

            /// As [`TcpStream::read_exact`](super::TcpStream::read_exact).
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// Not cancel-safe, as there.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $split]
            /// server.write_all(b"hi").await?;
            /// reader.read_exact(&mut [0; 2]).await?;
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn read_exact(
                &mut self,
                buffer: &mut [u8],
            ) -> impl Future<Output = io::Result<()>> {
                transfer::read_exact(&self.io, buffer)
            }

            /// As [`TcpStream::poll_read`](super::TcpStream::poll_read).
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// Loses no byte.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $split]
            /// server.write_all(b"hi").await?;
            /// let mut buffer = [0; 8];
            /// assert_eq!(std::future::poll_fn(|cx| reader.poll_read(cx, &mut buffer)).await?, 2);
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn poll_read(
                &mut self,
                cx: &mut Context<'_>,
                buffer: &mut [u8],
            ) -> Poll<io::Result<usize>> {
                transfer::poll(&self.io, cx, Reading(buffer))
            }

            /// As [`TcpStream::try_read`](super::TcpStream::try_read).
            ///
            /// # Errors
            /// As there.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $split]
            /// server.write_all(b"hi").await?;
            /// reader.readable().await?;
            /// assert_eq!(reader.try_read(&mut [0; 8])?, 2);
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
                transfer::attempt(&self.io, Reading(buffer))
            }

            /// As [`TcpStream::readable`](super::TcpStream::readable).
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// Loses nothing.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $split]
            /// server.write_all(b"hi").await?;
            /// reader.readable().await?;
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn readable(&self) -> impl Future<Output = io::Result<()>> {
                transfer::ready(&self.io, Direction::Read)
            }
        }
    };
}

macro_rules! write_methods {
    ($Half:ty, $connected:ident, $split:literal) => {
        impl $Half {
            /// As [`TcpStream::write`](super::TcpStream::write).
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// A write that was cancelled wrote nothing.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $split]
            /// assert_eq!(writer.write(b"hi").await?, 2);
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn write(&mut self, buffer: &[u8]) -> impl Future<Output = io::Result<usize>> {
                transfer::run(&self.io, Writing(buffer))
            }

            /// As [`TcpStream::write_vectored`](super::TcpStream::write_vectored).
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// A write that was cancelled wrote nothing.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $split]
            /// assert_eq!(writer.write_vectored(&[std::io::IoSlice::new(b"hi")]).await?, 2);
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn write_vectored(
                &mut self,
                buffers: &[IoSlice<'_>],
            ) -> impl Future<Output = io::Result<usize>> {
                transfer::run(&self.io, WritingVectored::new(buffers))
            }

            /// As [`TcpStream::write_all`](super::TcpStream::write_all).
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// Not cancel-safe, as there.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $split]
            /// writer.write_all(b"hi").await?;
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn write_all(&mut self, buffer: &[u8]) -> impl Future<Output = io::Result<()>> {
                transfer::write_all(&self.io, buffer)
            }

            /// As [`TcpStream::poll_write`](super::TcpStream::poll_write).
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// A write that was cancelled wrote nothing.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $split]
            /// assert_eq!(std::future::poll_fn(|cx| writer.poll_write(cx, b"hi")).await?, 2);
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn poll_write(
                &mut self,
                cx: &mut Context<'_>,
                buffer: &[u8],
            ) -> Poll<io::Result<usize>> {
                transfer::poll(&self.io, cx, Writing(buffer))
            }

            /// As [`TcpStream::poll_write_vectored`](super::TcpStream::poll_write_vectored).
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// A write that was cancelled wrote nothing.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $split]
            /// let buffers = [std::io::IoSlice::new(b"hi")];
            /// assert_eq!(std::future::poll_fn(|cx| writer.poll_write_vectored(cx, &buffers)).await?, 2);
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn poll_write_vectored(
                &mut self,
                cx: &mut Context<'_>,
                buffers: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                transfer::poll(&self.io, cx, WritingVectored::new(buffers))
            }

            /// As [`TcpStream::try_write`](super::TcpStream::try_write).
            ///
            /// # Errors
            /// As there.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $split]
            /// assert_eq!(writer.try_write(b"hi")?, 2);
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn try_write(&self, buffer: &[u8]) -> io::Result<usize> {
                transfer::attempt(&self.io, Writing(buffer))
            }

            /// As [`TcpStream::writable`](super::TcpStream::writable).
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// Loses nothing.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $split]
            /// writer.writable().await?;
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn writable(&self) -> impl Future<Output = io::Result<()>> {
                transfer::ready(&self.io, Direction::Write)
            }

            /// As [`TcpStream::shutdown`](super::TcpStream::shutdown). Dropping the owned half does that for writing.
            ///
            /// # Errors
            /// As there.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $split]
            /// writer.shutdown(std::net::Shutdown::Write)?;
            /// assert_eq!(server.read(&mut [0; 8]).await?, 0);
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
                self.io.shutdown(how)
            }
        }
    };
}

/// For every type that holds a socket of its own.
macro_rules! socket_methods {
    ($Type:ty, $connected:ident, $whole:literal, $name:literal, $Address:ty) => {
        impl $Type {
            /// This end's address.
            ///
            /// # Errors
            /// The system's.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $whole]
            #[doc = concat!("assert!(", $name, ".local_addr().is_ok());")]
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn local_addr(&self) -> io::Result<$Address> {
                self.io.local_addr()
            }

            /// The other end's address.
            ///
            /// # Errors
            /// The system's.
            ///
            /// ```
            #[doc = $connected!()]
            #[doc = $whole]
            #[doc = concat!("assert!(", $name, ".peer_addr().is_ok());")]
            /// # std::io::Result::Ok(()) }).unwrap();
            /// ```
            pub fn peer_addr(&self) -> io::Result<$Address> {
                self.io.peer_addr()
            }
        }

        #[cfg(unix)]
        impl std::os::fd::AsFd for $Type {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                self.io.as_fd()
            }
        }
    };
}

/// The four halves of a stream.
macro_rules! halves {
    ($Stream:literal, $Socket:ty, $Address:ty, $connected:ident) => {
        use super::watched::Watched;
        use std::rc::Rc;

        #[doc = concat!("The reading half of a borrowed [`", $Stream, "`](crate::net::", $Stream, "): see")]
        #[doc = concat!("[`split`](crate::net::", $Stream, "::split).")]
        ///
        /// ```
        #[doc = $connected!()]
        /// let (mut reader, _writer) = client.split();
        /// server.write_all(b"hi").await?;
        /// assert_eq!(reader.read(&mut [0; 8]).await?, 2);
        /// # std::io::Result::Ok(()) }).unwrap();
        /// ```
        #[derive(Debug)]
        pub struct ReadHalf<'a> {
            io: &'a Watched<$Socket>,
        }

        #[doc = concat!("The writing half of a borrowed [`", $Stream, "`](crate::net::", $Stream, "): see")]
        #[doc = concat!("[`split`](crate::net::", $Stream, "::split). Dropping it shuts down nothing.")]
        ///
        /// ```
        #[doc = $connected!()]
        /// let (_reader, mut writer) = client.split();
        /// writer.write_all(b"hi").await?;
        /// assert_eq!(server.read(&mut [0; 8]).await?, 2);
        /// # std::io::Result::Ok(()) }).unwrap();
        /// ```
        #[derive(Debug)]
        pub struct WriteHalf<'a> {
            io: &'a Watched<$Socket>,
        }

        #[doc = concat!("The reading half of a [`", $Stream, "`](crate::net::", $Stream, ") that was taken apart: see")]
        #[doc = concat!("[`into_split`](crate::net::", $Stream, "::into_split).")]
        ///
        /// ```
        #[doc = $connected!()]
        /// let (mut reader, _writer) = client.into_split();
        /// server.write_all(b"hi").await?;
        /// assert_eq!(reader.read(&mut [0; 8]).await?, 2);
        /// # std::io::Result::Ok(()) }).unwrap();
        /// ```
        #[derive(Debug)]
        pub struct OwnedReadHalf {
            io: Rc<Watched<$Socket>>,
        }

        #[doc = concat!("The writing half of a [`", $Stream, "`](crate::net::", $Stream, ") that was taken apart: see")]
        #[doc = concat!("[`into_split`](crate::net::", $Stream, "::into_split). Dropping it shuts down writing.")]
        ///
        /// ```
        #[doc = $connected!()]
        /// let (_reader, writer) = client.into_split();
        /// drop(writer);
        /// assert_eq!(server.read(&mut [0; 8]).await?, 0); // the end
        /// # std::io::Result::Ok(()) }).unwrap();
        /// ```
        #[derive(Debug)]
        pub struct OwnedWriteHalf {
            io: Rc<Watched<$Socket>>,
            is_reunited: bool,
        }

        pub(super) fn split(io: &Watched<$Socket>) -> (ReadHalf<'_>, WriteHalf<'_>) {
            (ReadHalf { io }, WriteHalf { io })
        }

        pub(super) fn into_split(io: Watched<$Socket>) -> (OwnedReadHalf, OwnedWriteHalf) {
            let io = Rc::new(io);
            (OwnedReadHalf { io: io.clone() }, OwnedWriteHalf { io, is_reunited: false })
        }

        /// Two halves of the same stream are that stream again; others come back as they are.
        pub(super) fn reunite(
            reader: OwnedReadHalf,
            mut writer: OwnedWriteHalf,
        ) -> Result<Watched<$Socket>, (OwnedReadHalf, OwnedWriteHalf)> {
            if !Rc::ptr_eq(&reader.io, &writer.io) {
                return Err((reader, writer));
            }
            writer.is_reunited = true;
            drop(writer);
            Ok(Rc::into_inner(reader.io).expect("the other half was the only one"))
        }

        impl Drop for OwnedWriteHalf {
            fn drop(&mut self) {
                if !self.is_reunited {
                    // The peer may have gone already; then there is nothing to shut down.
                    let _ = self.io.shutdown(Shutdown::Write);
                }
            }
        }

        read_methods!(ReadHalf<'_>, $connected, "let (mut reader, _writer) = client.split();");
        read_methods!(OwnedReadHalf, $connected, "let (mut reader, _writer) = client.into_split();");
        write_methods!(WriteHalf<'_>, $connected, "let (_reader, mut writer) = client.split();");
        write_methods!(OwnedWriteHalf, $connected, "let (_reader, mut writer) = client.into_split();");
        socket_methods!(ReadHalf<'_>, $connected, "let (half, _) = client.split();", "half", $Address);
        socket_methods!(WriteHalf<'_>, $connected, "let (_, half) = client.split();", "half", $Address);
        socket_methods!(OwnedReadHalf, $connected, "let (half, _other) = client.into_split();", "half", $Address);
        socket_methods!(OwnedWriteHalf, $connected, "let (_other, half) = client.into_split();", "half", $Address);
    };
}

pub(super) use {halves, read_methods, socket_methods, write_methods};
