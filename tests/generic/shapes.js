// The shapes of test_generic_servers.py in Node.js: WebSocket is that of the example project.
// `/events?PATH`: the first event, and the others once there is a file of that name.
'use strict';
const fs = require('node:fs');
const http = require('node:http');

const server = http.createServer((request, response) => {
  const url = new URL(request.url, 'http://x');
  const pieces = [];
  if (url.pathname === '/echo') {
    response.setHeader('Content-Type', 'application/octet-stream');
    return void request.pipe(response);
  }
  if (url.pathname === '/big') {
    const size = Number(url.search.slice(1));
    response.writeHead(200, { 'Content-Length': size });
    const piece = Buffer.alloc(65536, 'x');
    let left = size;
    const more = () => {
      while (left > 0) {
        const part = piece.subarray(0, Math.min(left, piece.length));
        left -= part.length;
        if (!response.write(part)) return void response.once('drain', more);
      }
      response.end();
    };
    return more();
  }
  if (url.pathname === '/events') {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    response.write('data: 1\n\n');
    const timer = setInterval(() => {
      if (!fs.existsSync(url.search.slice(1))) return;
      clearInterval(timer);
      response.write('data: 2\n\n');
      response.end('data: 3\n\n');
    }, 5);
    return undefined;
  }
  if (url.pathname === '/about') {
    return void response.end(JSON.stringify({ ip: request.headers['x-forwarded-for'], scheme: request.headers['x-forwarded-proto'], host: request.headers.host }));
  }
  request.on('data', (piece) => pieces.push(piece));
  request.on('end', () => response.end(String(process.pid)));
});
server.listen(process.env.SOCKET || process.env.PORT, process.env.SOCKET ? undefined : '127.0.0.1');
process.on('SIGTERM', () => server.close(() => process.exit(0)));
