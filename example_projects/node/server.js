// A Node.js application without a framework: listens where it is told, says what it was asked, streams, and talks back.
'use strict';
const crypto = require('node:crypto');
const http = require('node:http');

const server = http.createServer((request, response) => {
  const path = request.url.split('?')[0];
  if (path === '/events') return events(response);
  if (path === '/') return page(request, response);
  response.writeHead(404, { 'Content-Type': 'text/plain' });
  response.end('not found\n');
});

function page(request, response) {
  console.log(`${request.method} ${request.url} of ${request.headers['x-forwarded-for']}`);
  response.setHeader('Content-Type', 'text/plain; charset=utf-8');
  response.end(`Hello from process ${process.pid}, ${request.method} by way of ${request.headers['x-forwarded-proto']}\n`);
}

// Server-sent events: one a second, until the reader leaves.
function events(response) {
  response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
  response.flushHeaders();
  let count = 0;
  const timer = setInterval(() => response.write(`data: ${++count}\n\n`), 1000);
  response.on('close', () => clearInterval(timer));
}

// The least of WebSocket (RFC 6455): the handshake, and every short text message sent back. A site would use `ws`.
server.on('upgrade', (request, socket, head) => {
  const key = request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
  const accept = crypto.createHash('sha1').update(key).digest('base64');
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
  let buffer = head;
  socket.on('data', (data) => {
    buffer = Buffer.concat([buffer, data]);
    buffer = answerFrames(socket, buffer);
  });
  socket.on('error', () => socket.destroy());
});

function answerFrames(socket, buffer) {
  while (buffer.length >= 6 && buffer.length >= 6 + (buffer[1] & 0x7f)) {
    const opcode = buffer[0] & 0x0f;
    const length = buffer[1] & 0x7f;
    if (length > 125) return socket.destroy();
    const mask = buffer.subarray(2, 6);
    const payload = Buffer.from(buffer.subarray(6, 6 + length).map((byte, index) => byte ^ mask[index % 4]));
    buffer = buffer.subarray(6 + length);
    if (opcode === 8) {
      socket.end(Buffer.concat([Buffer.from([0x88, length]), payload]));
      return buffer;
    }
    // A ping (9) is answered with a pong (10), a message with itself.
    socket.write(Buffer.concat([Buffer.from([0x80 | (opcode === 9 ? 10 : opcode), length]), payload]));
  }
  return buffer;
}

// $SOCKET where appsrv.toml asks for one, else $PORT of this machine.
const place = process.env.SOCKET ? { path: process.env.SOCKET } : { host: '127.0.0.1', port: process.env.PORT };
server.listen(place, () => console.log(`listening on ${JSON.stringify(place)}`));

// The order to leave: finish what is being answered, then go.
process.on('SIGTERM', () => server.close(() => process.exit(0)));
