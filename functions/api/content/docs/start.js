const base = new URL(".", window.location.href);
const response = fetch(new URL("api/openapi.json", base));
response
  .then((answer) => answer.json())
  .then((spec) => {
    spec.servers = [{ url: base.href.replace(/\/$/, "") }];
    SwaggerUIBundle({
      spec,
      dom_id: "#swagger-ui",
      deepLinking: true,
      displayRequestDuration: true,
      tryItOutEnabled: true,
      validatorUrl: null,
    });
  });
