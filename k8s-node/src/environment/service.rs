//! Services as variables, in the form that Docker's links once had.

use k8s_core::api::api::core::v1::{Pod, Service, ServicePort};

/// What a service says in variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceLink {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its cluster address.
    pub address: String,
    /// Name, number and protocol of its ports, in their order.
    pub ports: Vec<(String, i32, String)>,
}

impl ServiceLink {
    /// Headless services and those without ports say nothing.
    pub fn of(service: &Service) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        let address = spec.cluster_ip.clone().filter(|ip| !ip.is_empty() && ip != "None")?;
        let port = |port: &ServicePort| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            (port.name.clone().unwrap_or_default(), port.port, protocol)
        };
        let ports: Vec<_> = spec.ports.iter().flatten().map(port).collect();
        let namespace = service.metadata.namespace.clone()?;
        (!ports.is_empty()).then_some(Self { namespace, name: service.metadata.name.clone()?, address, ports })
    }
}

/// The variables of the services that a pod is told about: those of its namespace, unless it declines, and the API
/// server's always.
pub fn service_variables(pod: &Pod, services: &[ServiceLink]) -> Vec<(String, String)> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let links = pod.spec.as_ref().and_then(|spec| spec.enable_service_links).unwrap_or(true);
    let is_api = |service: &ServiceLink| service.namespace == "default" && service.name == "kubernetes";
    let own = services.iter().filter(|service| links && service.namespace == namespace && !is_api(service));
    let api = services.iter().filter(|service| is_api(service));
    // A service of the pod's own namespace that is called `kubernetes` hides the API server's, as upstream's does.
    api.chain(own).flat_map(of_service).collect()
}

fn of_service(service: &ServiceLink) -> Vec<(String, String)> {
    let name = variable_name(&service.name);
    let address = &service.address;
    let mut all = vec![(format!("{name}_SERVICE_HOST"), address.clone())];
    let url = |port: i32, protocol: &str| format!("{}://{}", protocol.to_lowercase(), joined(address, port));
    if let Some((_, port, protocol)) = service.ports.first() {
        all.push((format!("{name}_SERVICE_PORT"), port.to_string()));
        all.push((format!("{name}_PORT"), url(*port, protocol)));
    }
    for (port_name, port, protocol) in &service.ports {
        if !port_name.is_empty() {
            all.push((format!("{name}_SERVICE_PORT_{}", variable_name(port_name)), port.to_string()));
        }
        let prefix = format!("{name}_PORT_{port}_{}", protocol.to_uppercase());
        all.push((prefix.clone(), url(*port, protocol)));
        all.push((format!("{prefix}_PROTO"), protocol.to_lowercase()));
        all.push((format!("{prefix}_PORT"), port.to_string()));
        all.push((format!("{prefix}_ADDR"), address.clone()));
    }
    all
}

fn joined(address: &str, port: i32) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

fn variable_name(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}
