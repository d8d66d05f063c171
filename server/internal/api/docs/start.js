'use strict';

// The page is at ROOT/docs/. A proxy may give ROOT a path of its own.
const root = new URL('..', location.href).pathname.replace(/\/$/, '');

const description =
  'Sign in with the id and the secret of an application. The page gets a token for them, which is valid for an hour, ' +
  'and sends it with every request.';

// withSignIn replaces the document's security scheme, a bearer token, by the OAuth flow that issues the token: generators
// of SDKs need the former, this page needs the latter.
function withSignIn(spec) {
  if (!spec.components) return spec; // the document is not loaded yet
  const [server] = spec.servers;
  const url = root + server.url;
  const [name] = Object.keys(spec.components.securitySchemes);
  const tokenUrl = location.origin + url + '/oauth/token';
  const scheme = { type: 'oauth2', description, flows: { clientCredentials: { tokenUrl, scopes: {} } } };
  return {
    ...spec,
    servers: [{ ...server, url }],
    components: { ...spec.components, securitySchemes: { [name]: scheme } },
  };
}

const signIn = (system) => ({
  statePlugins: {
    spec: { wrapActions: { updateJsonSpec: (update) => (spec) => update(withSignIn(spec)) } },
  },
  wrapComponents: {
    // A form makes the Enter key and password managers work.
    oauth2: (Dialog) => (props) => system.React.createElement(
      'form',
      { className: 'sign-in', onSubmit: (event) => event.preventDefault() },
      system.React.createElement(Dialog, props),
    ),
  },
});

window.ui = SwaggerUIBundle({
  url: root + '/openapi.json',
  dom_id: '#swagger-ui',
  deepLinking: true,
  validatorUrl: null, // sends nothing to other hosts
  plugins: [signIn],
});
