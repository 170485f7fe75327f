// An OAuth 2.0 issuer that natsentry's authors did not write. One JSON line on standard input is one order, one on
// standard output its answer; the first says who the issuer is.
import { createInterface } from 'node:readline';
import { OAuth2Server } from 'oauth2-mock-server';

const server = new OAuth2Server();
await server.issuer.keys.generate('RS256');
await server.start(0, '127.0.0.1');
const say = (answer) => console.log(JSON.stringify(answer));
say({ issuer: server.issuer.url });

// Through its token endpoint, as a client would. `claims` are set on what it is about to sign; null removes one.
async function token({ claims = {}, form = {} }) {
  server.service.once('beforeTokenSigning', (made) => {
    for (const [name, value] of Object.entries(claims)) {
      if (value === null) delete made.payload[name];
      else made.payload[name] = value;
    }
  });
  const body = new URLSearchParams({ grant_type: 'client_credentials', scope: 'nats', aud: 'nats', ...form });
  const answer = await fetch(`${server.issuer.url}/token`, { method: 'POST', body });
  return (await answer.json()).access_token;
}

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  if (order.rotate) say({ kid: (await server.issuer.keys.generate('RS256')).kid });
  else say({ token: await token(order) });
}
await server.stop();
